"""From joules to kWh, money and CO2 for a region."""
