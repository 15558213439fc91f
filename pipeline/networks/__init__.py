"""Networks: building and loading them, naming their layers, capturing what a layer puts out."""
