"""The converter that runs on the desktop: trained networks in, quantized bundles out. Nothing is exported yet."""
