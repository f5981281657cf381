"""Model files, parsed and bounds-checked in Python before native code sees them.

gguf.read_header(path) -> GgufHeader
    metadata, tensors, alignment, data_offset; architecture, parameters, quantization, number(key), details()
safetensors.read_header(path) -> SafetensorsHeader
    tensors: name -> (dtype, shape, begin, end); metadata, data_offset; parameters, dtype
chat_template.render(template, messages, *, add_generation_prompt, **variables) -> str; render_many: many at once
    in a sandbox, in a process of its own with limits on time, memory and output
modelfile.read(path) -> Modelfile; go_template.to_jinja(template); bundle/: models in one file
atomic.replacing(path)
    a temporary path that takes the place of `path`, whole, or leaves nothing behind
atomic.disk_errors(path, needed)
    what the operating system says of a full disk, as DiskFull
locks.locked(folder, what)
    a folder for this process alone, until it ends

Whatever is wrong inside a file is BadModelFile, one line that names the file and the reason. A header is refused, never
repaired. No format that can run code is read.
"""
