"""caskit: frozen synthetic replicas of labelled image datasets, scored by the Classification Accuracy Score."""

__version__ = "0.1.0"
