from pywebtransport import SessionState
from pywebtransport.constants import MAX_CLOSE_REASON_BYTES, ErrorCodes

print(SessionState.CONNECTED.value)  # -> connected
print(hex(ErrorCodes.H3_EXCESSIVE_LOAD))  # -> 0x107
print(MAX_CLOSE_REASON_BYTES)  # -> 1024
