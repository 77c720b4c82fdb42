"""geoxt/trainers/datamodules"""
