"""geoxt/regions"""
