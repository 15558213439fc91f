# Scores by R's acepack (Friedman's Fortran, bass 5), for the samples and the CIFAR activations.
#
#     Rscript tests/oracles/acepack.R FOLDER
#
# FOLDER holds NAME.x.bin and NAME.y.bin (float64, images x components, row-major) and NAME.shape ("n p"); for each,
# NAME.phi.bin and NAME.theta.bin (the same layouts) are written.
suppressPackageStartupMessages(library(acepack))
folder <- commandArgs(trailingOnly = TRUE)[1]
for (shape in list.files(folder, pattern = "\\.shape$", full.names = TRUE)) {
  base <- sub("\\.shape$", "", shape)
  size <- scan(shape, quiet = TRUE)
  x <- matrix(readBin(paste0(base, ".x.bin"), "double", size[1] * size[2]), size[1], size[2], byrow = TRUE)
  y <- readBin(paste0(base, ".y.bin"), "double", size[1])
  found <- ace(x, y)
  writeBin(as.vector(t(found$tx)), paste0(base, ".phi.bin"))
  writeBin(as.vector(found$ty), paste0(base, ".theta.bin"))
}
