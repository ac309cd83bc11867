"""Both papers on one page: claims, small experiments that test them, and the report of what came out."""
