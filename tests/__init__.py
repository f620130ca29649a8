"""A package in name, for IPython 7, which Colab has, brings a package of this name, too."""
