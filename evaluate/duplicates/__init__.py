"""Copies: within a set, of training images (memory), of test images (a leak), and classes that have collapsed."""
