"""The U-Net of an organ pack and the images on their way into it."""
