"""What is trained: the parameterised CIFAR-10 CNN, its closed forms, its data and its input pipelines."""
