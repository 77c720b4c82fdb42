"""geoxt/metrics"""
