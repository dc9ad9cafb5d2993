"""The GAN trainer and the handlers of training and evaluation."""
