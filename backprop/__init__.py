"""Part 1: backpropagation by hand, with a live spreadsheet and autograd to check it."""
