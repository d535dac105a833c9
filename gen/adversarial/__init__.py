"""Training of class-conditional GANs: hinge losses, spectral norms, collapse, averages, standing statistics, costs."""
