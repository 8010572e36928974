"""What runs on a device: numpy, OpenCV and one inference runtime; nothing else of Retort."""
