"""ImageNet (ILSVRC 2012) as its distributors give it; `archive.load` opens a folder of any of the layouts.

tars         ILSVRC2012_img_train.tar (a tar of 1000 class tars), ILSVRC2012_img_val.tar
folders      train/WNID/*.JPEG, val/WNID/*.JPEG, or val/*.JPEG as Kaggle has it
parquet      Hugging Face's imagenet-1k
webdataset   Hugging Face's timm/imagenet-1k-wds

Labels are 0..999 by ascending wnid in all of them. Validation images that are not in class folders need their truth:
the devkit's file, whose numbers are ILSVRC ids and not labels, with the list that says which wnid each id is.
"""
