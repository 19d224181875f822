"""The data plane: the packed data set format, packing, sampling and reading. Only `pipeline` imports TensorFlow."""
