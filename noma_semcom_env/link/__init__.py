"""How it is sent: channels, beams, decoding orders, rates and latency of uplink NOMA. NumPy alone."""
