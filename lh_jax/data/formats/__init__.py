"""Image file formats: each module turns the bytes of its format into a `header.Header`, and an array into bytes.

Arrays are (height, width, channels) uint8 or uint16 as they are stored: grey, grey and alpha, RGB, RGB and alpha, or
CMYK. What they mean (orientation, colour, alpha) is settled in `lh_jax.data.image_files`, once for all formats. Files
are read from a binary stream: no module here knows a path, and an error tells the reason alone.
"""
