"""What CUDA would run instead: attention backends, native dropout, fused norms, autocast's cast lists."""
