"""geoxt/trainers/experiments"""
