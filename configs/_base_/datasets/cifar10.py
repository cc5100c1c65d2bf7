# CIFAR-10 in torchvision's files, or any --data-root: a folder of classes, or CIFAR-100. Held in memory as uint8.
_base_ = "cifar100.py"
layout = "cifar10"
