"""Devices: one file each, two raw functions (the scan and its fused adjoint), no autograd inside."""
