from pywebtransport import ClientConfig, ConfigurationError

config = ClientConfig(connect_timeout=5)
print(config.update(read_timeout=1).connect_timeout)  # -> 5.0
try:
    ClientConfig(connect_timeout=-1)
except ConfigurationError as error:
    print(error.config_key, error.config_value)  # -> connect_timeout -1
