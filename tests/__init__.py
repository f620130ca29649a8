"""Make this a package, because IPython 7, which Colab has, brings a package of the same name."""
