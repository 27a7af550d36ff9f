"""Whether a machine has what evaluations need: `pixelrobust doctor`."""
