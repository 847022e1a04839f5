"""What leaves the machine and comes back: cards, publishing, exports."""

from agssp.telemetry import switch_off

switch_off()
