"""What the settings read of the machine: files, the environment, interfaces, memory limits.

The deciding half takes a `Machine`, so that tests bring one made of dictionaries.
"""
