"""geoxt/trainers/config"""
