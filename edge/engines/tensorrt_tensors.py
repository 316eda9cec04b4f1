"""An engine's inputs and outputs: by name where this TensorRT has names (8.5 and later, RTX), else by index (8.2).

Which it is, is asked of the objects. Portable: Python 3.6.
"""

__all__ = ["ByIndex", "ByName", "output_catcher", "tensors_of"]


def tensors_of(trt, engine, context):
    """Return the way this TensorRT has to its tensors."""
    if hasattr(engine, "num_io_tensors") and hasattr(context, "execute_async_v3"):
        return ByName(trt, engine, context)
    return ByIndex(trt, engine, context)


class ByName:
    """Tensors by name. inputs, outputs: their names."""

    def __init__(self, trt, engine, context):
        self._engine, self._context = engine, context
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self.inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.outputs = [name for name in names if name not in self.inputs]

    def dtype(self, name):
        """Return TensorRT's word for what a tensor holds, such as "HALF"."""
        return _word(self._engine.get_tensor_dtype(name))

    def format(self, name):
        """Return TensorRT's word for how a tensor lies in memory, such as "LINEAR"."""
        return _word(self._engine.get_tensor_format(name))

    def holds_shape(self, name):
        """Return whether a tensor's values are another tensor's shape, wanted before the run."""
        return bool(self._engine.is_shape_inference_io(name))

    def shape(self, name):
        """Return a tensor's shape as it was built, -1 where it is open."""
        return tuple(self._engine.get_tensor_shape(name))

    def profile(self, name):
        """Return the least, best and greatest shape of an input in the first profile."""
        return [tuple(shape) for shape in self._engine.get_tensor_profile_shape(name, 0)]

    def use_profile(self, stream_handle):
        """Take the first profile and return whether that was possible."""
        return bool(self._context.set_optimization_profile_async(0, stream_handle))

    def set_shape(self, name, shape):
        """Give an input its shape and return whether it was taken."""
        return bool(self._context.set_input_shape(name, shape))

    def actual_shape(self, name):
        """Return an output's shape for the inputs as they are, -1 where only the run will show it."""
        return tuple(self._context.get_tensor_shape(name))

    def most_bytes(self, name):
        """Return the size in bytes an output cannot exceed, -1 where nobody knows."""
        return int(self._context.get_max_output_size(name))

    def bind(self, name, pointer):
        """Say where in the GPU's memory a tensor lies and return whether that was taken."""
        return bool(self._context.set_tensor_address(name, pointer))

    def catch(self, name, catcher):
        """Have an output of unknown shape given to `catcher` and return whether that was taken."""
        return bool(self._context.set_output_allocator(name, catcher))

    def enqueue(self, stream_handle):
        """Put one inference into the stream and return whether it was taken."""
        return bool(self._context.execute_async_v3(stream_handle))


class ByIndex:
    """Bindings by index, which repeat for each profile; those of the first are used. inputs, outputs: their names."""

    def __init__(self, trt, engine, context):
        self._engine, self._context = engine, context
        count = engine.num_bindings // max(1, engine.num_optimization_profiles)
        self._index = {engine.get_binding_name(i): i for i in range(count)}
        self._pointers = [0] * engine.num_bindings
        self.inputs = [name for name, i in self._index.items() if engine.binding_is_input(i)]
        self.outputs = [name for name in self._index if name not in self.inputs]

    def dtype(self, name):
        """Return TensorRT's word for what a tensor holds, such as "HALF"."""
        return _word(self._engine.get_binding_dtype(self._index[name]))

    def format(self, name):
        """Return TensorRT's word for how a tensor lies in memory, such as "LINEAR"."""
        return _word(self._engine.get_binding_format(self._index[name]))

    def holds_shape(self, name):
        """Return whether a tensor's values are another tensor's shape, wanted before the run."""
        return bool(self._engine.is_shape_binding(self._index[name]))

    def shape(self, name):
        """Return a tensor's shape as it was built, -1 where it is open."""
        return tuple(self._engine.get_binding_shape(self._index[name]))

    def profile(self, name):
        """Return the least, best and greatest shape of an input in the first profile."""
        return [tuple(shape) for shape in self._engine.get_profile_shape(0, self._index[name])]

    def use_profile(self, stream_handle):
        """Take the first profile and return whether that was possible."""
        return bool(self._context.set_optimization_profile_async(0, stream_handle))

    def set_shape(self, name, shape):
        """Give an input its shape and return whether it was taken."""
        return bool(self._context.set_binding_shape(self._index[name], shape))

    def actual_shape(self, name):
        """Return an output's shape for the inputs as they are."""
        return tuple(self._context.get_binding_shape(self._index[name]))

    def most_bytes(self, name):
        """Return -1: these releases have no outputs whose shape only the run shows."""
        return -1

    def bind(self, name, pointer):
        """Say where in the GPU's memory a tensor lies and return True."""
        self._pointers[self._index[name]] = pointer
        return True

    def catch(self, name, catcher):
        """Return False: nothing can be caught here."""
        return False

    def enqueue(self, stream_handle):
        """Put one inference into the stream and return whether it was taken."""
        return bool(self._context.execute_async_v2(self._pointers, stream_handle))


def output_catcher(trt, pointer, size_bytes):
    """Return what TensorRT asks for the memory of an output whose shape only the run shows; `shape` then has it."""

    class Catcher(trt.IOutputAllocator):
        def __init__(self):
            trt.IOutputAllocator.__init__(self)
            self.shape = ()

        def reallocate_output(self, tensor_name, memory, size, alignment):
            return pointer if size <= size_bytes else 0

        def reallocate_output_async(self, tensor_name, memory, size, alignment, stream):  # 10.x
            return pointer if size <= size_bytes else 0

        def notify_shape(self, tensor_name, shape):
            self.shape = tuple(shape)

    return Catcher()


def _word(value):
    return str(getattr(value, "name", value)).rpartition(".")[2]
