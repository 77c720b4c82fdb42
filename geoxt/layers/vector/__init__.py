"""geoxt/layers/vector"""
