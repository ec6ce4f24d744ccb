"""Pretrained backbones of timm and MONAI, behind one classifier."""
