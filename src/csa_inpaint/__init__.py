"""Image inpainting with Coherent Semantic Attention."""
