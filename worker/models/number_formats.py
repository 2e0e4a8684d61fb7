"""The largest finite numbers of the narrow floating-point formats."""

FP8_MAX = 448.0  #: of e4m3, the only fp8 format that we use
FP16_MAX = 65504.0
