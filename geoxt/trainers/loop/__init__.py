"""geoxt/trainers/loop"""
