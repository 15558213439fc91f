"""Networks: building them, loading their weights, describing their layers, and computing their outputs."""
