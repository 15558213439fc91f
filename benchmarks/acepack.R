# Prints the seconds that R's acepack takes for all channels in X.bin with every response in Y.bin:
# Rscript acepack.R X.bin Y.bin N_CHANNELS N_IMAGES N_COMPONENTS
suppressPackageStartupMessages(library(acepack))
arguments <- commandArgs(trailingOnly = TRUE)
size <- as.integer(arguments[3:5])
values <- array(readBin(arguments[1], "double", prod(size)), c(size[3], size[2], size[1]))
channels <- lapply(seq_len(size[1]), function(channel) t(matrix(values[, , channel], size[3], size[2])))
responses <- matrix(readBin(arguments[2], "double", file.size(arguments[2]) / 8), size[2])
invisible(ace(channels[[1]], responses[, 1]))
start <- Sys.time()
for (x in channels) for (b in seq_len(ncol(responses))) ace(x, responses[, b])
cat(as.numeric(Sys.time() - start, units = "secs"), "\n")
