"""Statistics of forward passes, kept between runs."""
