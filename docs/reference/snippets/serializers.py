from dataclasses import dataclass

from pywebtransport import SerializationError
from pywebtransport.serializer import JSONSerializer


@dataclass
class Point:
    x: int
    y: int


serializer = JSONSerializer()
data = serializer.serialize(obj=Point(1, 2))
print(data)  # -> b'{"x":1,"y":2}'
print(serializer.deserialize(data=data, obj_type=Point))  # -> Point(x=1, y=2)
try:
    serializer.deserialize(data=b'{"x": 1, "y": "2"}', obj_type=Point)
except SerializationError as error:
    print(error.details["path"])  # -> Point.y
