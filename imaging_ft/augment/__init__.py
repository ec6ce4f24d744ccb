"""What happens to images: training recipes (albumentations) and report conditions (NumPy and OpenCV alone)."""
