"""geoxt/trainers/tasks"""
