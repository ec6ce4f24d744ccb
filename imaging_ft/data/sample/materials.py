"""Linear attenuation coefficients in 1/cm: (mu/rho) · density, rounded, from NIST's tables.

J. H. Hubbell, S. M. Seltzer, "Tables of X-Ray Mass Attenuation Coefficients", NISTIR 5632 (the XCOM data).
One effective energy a scanner: 100 keV for a filtered 160 kV baggage beam, 60 keV for a 110 kV chest beam.
A real tube sends a spectrum; its beam hardening is left out.
"""

# At 100 keV.
STEEL = 2.9
BRASS = 3.7
COPPER = 4.1
ALUMINIUM = 0.46
GLASS = 0.42
WATER = 0.17
PLASTIC = 0.17
RUBBER = 0.19
PAPER = 0.12
LEATHER = 0.14
CLOTH = 0.025
"""Folded cloth, mostly air."""
CELL = 0.75
"""A lithium-ion cell: foils of copper and aluminium in an electrolyte."""

# At 60 keV.
TISSUE = 0.215
BLOOD = 0.22
LUNG = 0.06
FAT = 0.185
BONE = 0.42
"""A whole rib or vertebra: a hard shell around marrow."""
