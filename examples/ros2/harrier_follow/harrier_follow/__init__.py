"""A ROS 2 node that follows what Harrier sees."""
