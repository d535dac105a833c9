"""BigGAN-deep (Brock et al. 2019): the generator, published weights, truncation and standing statistics, training."""
