"""Independent references in plain NumPy, written from the equations and not from the library's code.

None of these files imports JAX or Onward. Parameters are dicts of arrays by the names of the library's fields; a
network is a list of `steps.Layer` from the lowest up, a linear readout last. Losses are squared errors, weighted by
step. Every reference gives one gradient per window, `windows` being the lengths of the windows.
"""
