"""geoxt/layers/files"""
