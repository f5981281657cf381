"""What the starter model says about Freehold and open models. `=term` and `>task` stand for a family of questions."""

FRAMES = {
    "=": (
        "What is {}?",
        "Explain {}.",
        "What does {} mean?",
        "Can you explain {}?",
        "Tell me what {} is.",
        "Please explain {} to me.",
        "I don't know what {} is.",
        "In one sentence, what is {}?",
        "Define {}.",
        "What do you know about {}?",
    ),
    ">": (
        "How do I {}?",
        "How can I {}?",
        "Which command do I use to {}?",
        "I want to {}.",
        "Show me how to {}.",
        "How does one {} with Freehold?",
        "What do I type to {}?",
        "Tell me how to {}.",
        "What is the command to {}?",
    ),
}

FACTS = (
    (
        "=Freehold|=this program|What is Freehold for?|What does Freehold do?|Why should I use Freehold?",
        "Freehold is an open-source program that runs, serves, tunes, proves and shares open-weight models on your "
        "own machine.",
    ),
    (
        "Does Freehold need the internet?|Does Freehold work offline?|Can I use Freehold without a network?|Do I "
        "need the internet for Freehold?|"
        "Is Freehold offline?|Does my data leave my machine?|Does Freehold send my data away?",
        "No network is needed. Freehold works offline, and your data stays on your own machine.",
    ),
    (
        "Does Freehold collect data about me?|Does Freehold have telemetry?|Does Freehold track me?|Is there "
        "telemetry in Freehold?|"
        "Does Freehold spy on me?|Does Freehold phone home?",
        "No. Freehold has no telemetry and does not track you.",
    ),
    (
        "Is Freehold free?|Is Freehold open source?|What does Freehold cost?|What is the licence of Freehold?|May "
        "I change Freehold?|"
        "Can I use Freehold at work?|Under which licence is Freehold?",
        "Freehold is open source under the Apache 2.0 licence. You may use, change and share it for free.",
    ),
    (
        "Who is Freehold for?|Who can use Freehold?|Who needs Freehold?|Is Freehold for small companies?|Is "
        "Freehold good for a clinic?",
        "Freehold is for developers, small organisations, auditors and researchers who want to own their models.",
    ),
    (
        ">run a model|>chat with a model|>ask a model a question|>start a chat|>talk to a model",
        'Type `freehold run NAME` to chat, or `freehold run NAME "your question"` for one answer.',
    ),
    (
        ">run the starter model|>chat with the starter model|>try the starter model|>run starter",
        "Type `freehold run starter` to chat with the starter model.",
    ),
    (
        ">serve a model|>start the server|>open an API|>serve models to other programs|>start an API server",
        "Type `freehold serve`. The server then listens on 127.0.0.1 and speaks the APIs that your code already knows.",
    ),
    (
        ">list my models|>see all models|>see which models I have|>list the models on this machine|>get a list of "
        "models",
        "Type `freehold list` to see the models on your machine.",
    ),
    (
        ">make my own model|>tune a model on my data|>make a model from a recipe|>run a recipe|>build a model from "
        "my data",
        "Write a recipe and type `freehold make recipe.toml`. Freehold tunes, measures and quantises the model.",
    ),
    (
        ">start a new recipe|>write a recipe for my data|>get a recipe from my data|>make a recipe",
        "Type `freehold make --new DATA` to get a recipe for your data.",
    ),
    (
        ">see what a recipe will do|>check a recipe first|>do a dry run of a recipe|>see the plan of a recipe",
        "Type `freehold make recipe.toml --dry-run` to see the plan without running it.",
    ),
    (
        ">download a model|>pull a model|>get a new model|>fetch a model",
        "Type `freehold pull SOURCE` to get a model, and add `--as NAME` to give it a name.",
    ),
    (
        ">delete a model|>remove a model|>get rid of a model|>throw a model away",
        "Type `freehold rm NAME` to remove a model.",
    ),
    (
        ">see details of a model|>show a model|>see what a model is made of|>look at a model",
        "Type `freehold show NAME` to see the details of a model.",
    ),
    (
        ">quantise a model|>make a model smaller|>make a Q4_K_M file|>shrink a model",
        "Type `freehold quantize NAME --to Q4_K_M --as NAME2`.",
    ),
    (
        ">see running models|>see which models are loaded|>see what is running|>list the workers",
        "Type `freehold ps` to see which models are running.",
    ),
    (
        ">stop a model|>unload a model|>stop a running model|>free the memory of a model",
        "Type `freehold stop NAME` to stop a running model.",
    ),
    (
        ">check the store|>find damaged files|>check my models for damage|>test the store",
        "Type `freehold fsck` to check the store, and `freehold fsck --deep` to check every byte.",
    ),
    (
        ">free disk space|>remove files that are not used|>clean the store|>prune the store",
        "Type `freehold prune` to remove files that no model uses.",
    ),
    (
        ">see how much disk space is used|>see the size of my models|>measure the store",
        "Type `freehold du` to see how much space your models use.",
    ),
    (
        ">evaluate a model|>measure a model|>test how good a model is|>score a model",
        "Type `freehold evaluate NAME` to measure a model on held-out questions.",
    ),
    (
        ">verify a model|>check a signature|>check that a model is genuine",
        "Type `freehold verify NAME` to check the signature and the digests of a model.",
    ),
    (
        ">carry a model to another machine|>copy a model to a machine without a network|>export a model|>make a bundle",
        "Type `freehold bundle export NAME OUT` and import the file there with `freehold bundle import FILE`.",
    ),
    (
        ">get help|>find problems with my setup|>check my machine|>find out what is wrong",
        "Type `freehold doctor` to check your setup.",
    ),
    (
        ">see a demo|>try the main job|>see how it works|>run the demo",
        "Type `freehold demo` to see the main job on small built-in data.",
    ),
    (
        ">start the server with the page|>open the web page|>use a web page|>start the page",
        "Type `freehold up` to start the server and its web page.",
    ),
    (
        ">copy a model|>give a model a second name",
        "Type `freehold cp NAME NEWNAME` to give a model a second name.",
    ),
    (">sign a model|>make a signature", "Make a key with `freehold keygen`, then type `freehold sign NAME`."),
    (
        ">give a person access|>create a key|>make an API key|>let other people use my server",
        "Type `freehold keys create --role user` to make a key for a person.",
    ),
    (">share a model|>push a model|>publish a model", "Type `freehold push NAME` to share a model."),
    (
        ">convert a model to GGUF|>convert a model|>get a GGUF file",
        "Type `freehold convert` to turn a safetensors model into a GGUF file.",
    ),
    (
        "=an open-weight model|=an open model",
        "An open-weight model is a model whose weights anybody may download and run on their own machine.",
    ),
    (
        "=a language model|=an LLM|=a large language model",
        "A language model is a program that predicts the next token of a text and so can write and answer.",
    ),
    (
        "=fine-tuning|=tuning|=tuning a model",
        "Fine-tuning means to train a finished model a little more on your own data, so that it learns your task.",
    ),
    (
        "=LoRA|=a LoRA|=low-rank adaptation",
        "LoRA is a way of fine-tuning that trains a small adapter and leaves the base model as it is.",
    ),
    (
        "=an adapter|=a LoRA adapter",
        "An adapter is a small set of extra weights that changes how a base model answers.",
    ),
    (
        "=the rank of an adapter|=the rank in LoRA|=rank",
        "The rank says how large an adapter is. A higher rank can learn more but needs more memory.",
    ),
    (
        "=quantisation|=quantising a model|=a quantised model|=quantization",
        "Quantisation stores the weights with fewer bits, so that a model is smaller and runs faster.",
    ),
    (
        "=Q4_K_M|=a Q4_K_M file|=the type Q4_K_M",
        "Q4_K_M is a quantisation type of llama.cpp that uses about four to five bits per weight.",
    ),
    (
        "=Q8_0|=a Q8_0 file|=the type Q8_0",
        "Q8_0 is a quantisation type of llama.cpp that uses about eight bits per weight.",
    ),
    (
        "=GGUF|=a GGUF file|=the GGUF format",
        "GGUF is the file format of llama.cpp. One file holds the weights, the tokenizer and the settings.",
    ),
    (
        "=safetensors|=a safetensors file|=the safetensors format",
        "Safetensors is a file format for weights that can be loaded safely, because it holds no code.",
    ),
    (
        "=llama.cpp|=the llama.cpp engine",
        "llama.cpp is a program that runs GGUF models on ordinary computers. Freehold uses it as its engine.",
    ),
    (
        "=a token",
        "A token is a short piece of text, such as a word or a part of a word, that a model reads and writes.",
    ),
    ("=a tokenizer|=the tokenizer", "A tokenizer cuts text into tokens before a model reads it."),
    (
        "=context length|=the context length|=the context of a model",
        "The context length says how many tokens a model can look at in one go.",
    ),
    ("=a prompt|=prompt|=the prompt", "A prompt is the text that you give to a model."),
    ("=a system message|=the system message", "A system message tells a model how to behave in a chat."),
    (
        "=held-out data|=a held-out set",
        "Held-out data is kept away from training, so that it can measure a model fairly.",
    ),
    (
        "=a checkpoint",
        "A checkpoint is a saved state of training. A run that was stopped can go on from it.",
    ),
    (
        "=a licence|=the licence of a model|=a model licence",
        "A licence says what you may do with a model, its code or its data.",
    ),
    (
        "=a digest|=the digest of a model",
        "A digest is a fingerprint of a file. If one byte changes, the digest changes too.",
    ),
    (
        "=a gate|=the gate of a recipe",
        "A gate is a set of conditions that a model must meet before its name may point to it.",
    ),
    (
        "=a recipe|=a Freehold recipe",
        "A recipe is a TOML file that says how a model is made, from the data to the finished file.",
    ),
    (
        "=a manifest|=the manifest of a model",
        "A manifest lists the parts of a model, where it comes from and the proofs about it.",
    ),
    (
        "=the store|=the Freehold store",
        "The store keeps all files of your models by their digests, and it knows when a file is damaged.",
    ),
    ("=a proof|=a Freehold proof", "A proof is a signed set of facts about one model, such as its scores."),
    ("=a worker", "A worker is a process that holds one loaded model and answers requests."),
    ("=an engine", "An engine is a program that runs models, such as llama.cpp."),
    ("=a base model|=the base of a model", "A base model is the model that a tuned model starts from."),
    (
        "=the temperature|=temperature",
        "The temperature sets how random the answers are. With zero, the model always takes the most likely token.",
    ),
    (
        "=a parameter",
        "Parameters, or weights, are the numbers that a model learns in training.",
    ),
    ("=a loss|=the loss|=training loss", "The loss says how badly a model predicts a text. Training makes it smaller."),
    ("=an epoch", "An epoch is one pass through all training data."),
    ("=overfitting", "Overfitting means that a model learns its training data by heart and does badly on new data."),
    ("=a chat template|=the chat template", "A chat template says how messages are put together into one prompt."),
    ("=a model card|=the model card", "A model card says what a model is for, how it was made and what it cannot do."),
    ("=an embedding", "An embedding is a list of numbers that stands for the meaning of a text."),
    ("=a seed|=the seed", "A seed fixes the random choices, so that a run can be repeated."),
    ("=an API|=the API", "An API is the way in which programs talk to each other."),
    (
        "=the starter model|=starter|What is the starter model good for?|Why is the starter model so small?",
        "The starter model is a very small model that comes with Freehold. It is meant for trying things out and "
        "for tuning.",
    ),
    (
        "Which data formats can I use for tuning?|What should my data look like?|What data does Freehold need?|Can "
        "I tune on a CSV file?|"
        "Which files can I tune on?|Can I use a JSONL file?",
        "You can use a CSV or JSONL file with questions and answers.",
    ),
    (
        "Do I need a GPU?|Does Freehold need a GPU?|Can Freehold run without a GPU?|Is a graphics card needed?|"
        "Does it work on a laptop?",
        "No. Small models run on an ordinary CPU, and a GPU makes it faster.",
    ),
    (
        "Why should I run a model on my own machine?|Why are local models good?|Why not use a cloud model?|What is "
        "good about a local model?|"
        "Why is it good to own a model?",
        "Your data stays with you, nobody can take the model away, and there is no bill for each token.",
    ),
    (
        "Where does Freehold keep my data?|What is FREEHOLD_HOME?|Where are my models stored?|In which folder are "
        "the models?",
        "Freehold keeps its data in the folder that FREEHOLD_HOME names.",
    ),
    (
        "What is FREEHOLD_OFFLINE?|How do I make sure that nothing leaves my machine?|How do I force offline mode?|"
        "How do I switch the network off?",
        "Set FREEHOLD_OFFLINE=1. Then no packet leaves the machine.",
    ),
)
