"""What neither mode can see: `torch.cuda`, streams, parameters, the autograd entry, storages. Installed and undone as one."""

from vramcast.virtual_cuda.patches.install import installed_patches

__all__ = ["installed_patches"]
