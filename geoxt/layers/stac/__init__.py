"""geoxt/layers/stac"""
