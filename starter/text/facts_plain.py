"""Hand-written answers to plain questions and how-tos, and lists of three things of a kind."""

LISTS = (
    ("fruits", "apple, banana and pear"),
    ("vegetables", "carrot, onion and potato"),
    ("animals", "dog, horse and elephant"),
    ("colours", "red, blue and green"),
    ("farm animals", "cow, pig and hen"),
    ("birds", "owl, duck and eagle"),
    ("pets", "cat, dog and rabbit"),
    ("drinks", "water, tea and milk"),
    ("countries", "France, Japan and Canada"),
    ("cities", "London, Paris and Tokyo"),
    ("sports", "football, tennis and swimming"),
    ("jobs", "teacher, nurse and baker"),
    ("tools", "hammer, saw and screwdriver"),
    ("trees", "oak, pine and birch"),
    ("flowers", "rose, tulip and daisy"),
    ("musical instruments", "piano, guitar and drum"),
    ("kinds of furniture", "chair, table and bed"),
    ("days of the week", "Monday, Tuesday and Wednesday"),
    ("months", "January, February and March"),
    ("languages", "English, Spanish and Chinese"),
    ("planets", "Earth, Mars and Jupiter"),
    ("shapes", "circle, square and triangle"),
    ("kinds of weather", "sun, rain and snow"),
    ("things in a kitchen", "pan, plate and spoon"),
    ("things in a school bag", "book, pencil and ruler"),
    ("parts of the body", "head, arm and leg"),
    ("rooms of a house", "kitchen, bedroom and bathroom"),
    ("rivers", "Nile, Rhine and Amazon"),
    ("clothes", "shirt, coat and hat"),
    ("vehicles", "car, bus and train"),
    ("hobbies", "reading, painting and cycling"),
    ("ways to save energy", "turn off the lights, close the windows in winter and use less hot water"),
    ("ways to say hello", "hello, hi and good morning"),
    ("healthy habits", "sleep well, eat vegetables and move every day"),
    ("gifts for a friend", "a book, a plant and a box of chocolates"),
)

FACTS = (
    (
        "How do I make tea?|How can I make a cup of tea?|Tell me how to make tea.|I want to make tea.",
        "Boil water, pour it over the tea and wait for four minutes. Then take the tea out.",
    ),
    (
        "How do I boil an egg?|How can I cook an egg?|Tell me how to boil an egg.|How long do I boil an egg?",
        "Put the egg into boiling water for eight minutes. Then cool it in cold water.",
    ),
    (
        "How do I cook rice?|How can I cook rice?|Tell me how to cook rice.|I want to cook rice.",
        "Boil one cup of rice in two cups of water for about fifteen minutes.",
    ),
    (
        "How do I cook pasta?|Tell me how to cook pasta.|How can I cook pasta?|What is the way to cook pasta?",
        "Boil the pasta in salted water for about ten minutes and drain it.",
    ),
    (
        "How do I clean a window?|How can I clean my windows?|Tell me how to clean a window.",
        "Wash the window with warm soapy water and dry it with a clean cloth.",
    ),
    (
        "How do I write a letter?|How should I write a letter?|Tell me how to write a letter.",
        "Start with a greeting, say what you want in short sentences and end with your name.",
    ),
    (
        "How do I plant a tree?|Tell me how to plant a tree.|How can I plant a tree?",
        "Dig a wide hole, put the tree in, fill the hole with earth and water it well.",
    ),
    (
        "How do I learn new words?|How can I learn words faster?|Tell me how to learn new words.",
        "Write the words on cards and repeat a few of them every day.",
    ),
    (
        "How can I sleep better?|How do I fall asleep?|I cannot sleep. What can I do?|Give me a tip for better sleep.",
        "Go to bed at the same time every day and put your phone away an hour before.",
    ),
    (
        "How do I wash my hands?|What is the right way to wash my hands?|How should I wash my hands?",
        "Wash your hands with soap and water for twenty seconds, and dry them well.",
    ),
    (
        "How can I save water?|How do I save water at home?|Give me a tip to save water.",
        "Take short showers, close the tap while you brush your teeth and repair leaks.",
    ),
    (
        "How do I restart my computer?|How can I restart a computer?|My computer is slow. What can I do?",
        "Save your work, open the menu and choose restart.",
    ),
    (
        "My printer does not print. What can I do?|How do I fix my printer?|Why does my printer not work?",
        "Check the cable and the paper, then turn the printer off and on again.",
    ),
    (
        "My internet does not work. What can I do?|How do I fix my internet?|I have no internet at home.",
        "Turn the router off, wait for ten seconds and turn it on again.",
    ),
    (
        "How do I copy text on a computer?|How can I copy and paste?|What are the keys for copy and paste?",
        "Mark the text, press Ctrl and C to copy it, and press Ctrl and V to paste it.",
    ),
    (
        "How do I make a sandwich?|Tell me how to make a sandwich.|How can I make a sandwich?",
        "Take two slices of bread, put cheese and salad between them and cut it in half.",
    ),
    (
        "How do I make friends?|How can I find new friends?|Tell me how to make friends.",
        "Join a club, be kind, ask questions and listen.",
    ),
    (
        "How do I remove a stain?|How can I get a stain out of a shirt?|There is a stain on my shirt.",
        "Put cold water and soap on the stain, rub it softly and wash the shirt.",
    ),
    (
        "How do I tie a parcel?|How do I pack a parcel?|Tell me how to pack a parcel.",
        "Wrap the thing in paper, put it into a strong box and close the box with tape.",
    ),
    (
        "How do I water plants?|How often should I water plants?|When should I water my plants?",
        "Water your plants when the earth feels dry, best in the morning.",
    ),
    (
        "How do I prepare for an interview?|How can I prepare for a job interview?|I have a job interview. Any tips?",
        "Read about the company, think about your strengths and arrive ten minutes early.",
    ),
    (
        "How do I stay healthy?|What is good for my health?|How can I stay healthy?",
        "Eat vegetables and fruit, move every day and sleep enough.",
    ),
    (
        "Why is the sky blue?|What makes the sky blue?|Tell me why the sky is blue.",
        "The air scatters blue light more than red light, so the sky looks blue.",
    ),
    (
        "Why does it rain?|Where does rain come from?|How does rain form?",
        "Water rises into the air, forms clouds and falls down as drops.",
    ),
    (
        "Why do we sleep?|Why do people need sleep?|What is sleep good for?",
        "Sleep lets the body and the brain rest and repair themselves.",
    ),
    (
        "Why do leaves fall?|Why do trees lose their leaves?|When do leaves fall?",
        "Many trees drop their leaves in autumn to save water in winter.",
    ),
    (
        "Why do we have seasons?|What causes the seasons?|Where do the seasons come from?",
        "The Earth is tilted, so each half gets more sun in one part of the year.",
    ),
    (
        "What is ice?|What is ice made of?|What happens when water freezes?",
        "Ice is frozen water. Water freezes at zero degrees Celsius.",
    ),
    (
        "When does water boil?|At which temperature does water boil?|How hot is boiling water?",
        "Water boils at 100 degrees Celsius.",
    ),
    (
        "What is the largest ocean?|Which ocean is the largest?|Name the biggest ocean.",
        "The largest ocean is the Pacific Ocean.",
    ),
    (
        "What is the highest mountain?|Which mountain is the highest?|Name the highest mountain on Earth.",
        "The highest mountain is Mount Everest.",
    ),
    (
        "What is the largest animal?|Which animal is the largest?|Name the biggest animal.",
        "The largest animal is the blue whale.",
    ),
    (
        "What is the fastest land animal?|Which animal runs fastest?|Name the fastest animal on land.",
        "The fastest land animal is the cheetah.",
    ),
    (
        "What is the tallest animal?|Which animal is the tallest?|Name the tallest animal.",
        "The tallest animal is the giraffe.",
    ),
    (
        "What is the largest planet?|Which planet is the biggest?|Name the largest planet.",
        "The largest planet is Jupiter.",
    ),
    ("Which planet do we live on?|What is our planet called?|Name our planet.", "We live on the planet Earth."),
    (
        "What is the sun?|Is the sun a star?|Tell me what the sun is.",
        "The sun is a star. It gives us light and warmth.",
    ),
    (
        "What is the moon?|Tell me what the moon is.|What goes around the Earth?",
        "The moon is a ball of rock that goes around the Earth.",
    ),
    ("What do bees make?|Which animal makes honey?|Where does honey come from?", "Bees make honey."),
    ("What do cows give us?|Where does milk come from?|Which animal gives us milk?", "Cows give us milk."),
    ("What do plants need?|What do plants need to grow?|What does a plant need?", "Plants need light, water and air."),
    ("What do fish breathe with?|How do fish breathe?|Do fish have lungs?", "Fish breathe with gills."),
    (
        "What is bread made of?|What do I need for bread?|How is bread made?",
        "Bread is made of flour, water, salt and yeast.",
    ),
    ("What is cheese made of?|How is cheese made?|Where does cheese come from?", "Cheese is made of milk."),
    ("What is paper made of?|How is paper made?|Where does paper come from?", "Paper is made of wood."),
    ("What is glass made of?|How is glass made?|Where does glass come from?", "Glass is made of sand."),
    (
        "What are the days of the week?|Name the days of the week.|List all days of the week.",
        "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.",
    ),
    ("What are the seasons?|Name the four seasons.|List the seasons.", "Spring, summer, autumn and winter."),
    ("What are the vowels?|Name the vowels.|List the vowels.", "The vowels are A, E, I, O and U."),
    (
        "Name the months of the year.|What are the months?|List all months.",
        "January, February, March, April, May, June, July, August, September, October, November and December.",
    ),
    ("Count to five.|Count from one to five.|Can you count to five?", "One, two, three, four, five."),
    (
        "Count to ten.|Count from one to ten.|Can you count to ten?",
        "One, two, three, four, five, six, seven, eight, nine, ten.",
    ),
    ("Count down from five.|Count backwards from five.|Can you count down from five?", "Five, four, three, two, one."),
    (
        "Say the alphabet.|What is the alphabet?|Tell me the alphabet.",
        "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z",
    ),
    (
        "What is a noun?|Tell me what a noun is.|Explain the word noun.",
        "A noun is a word for a person, a place or a thing.",
    ),
    ("What is a verb?|Tell me what a verb is.|Explain the word verb.", "A verb is a word for what somebody does."),
    (
        "What is an adjective?|Tell me what an adjective is.|Explain the word adjective.",
        "An adjective is a word that says what something is like.",
    ),
    (
        "What is a question mark?|When do I use a question mark?|What is a question mark for?",
        "A question mark stands at the end of a question.",
    ),
    (
        "What is a computer?|Tell me what a computer is.|Explain what a computer is.",
        "A computer is a machine that works with data and follows programs.",
    ),
    (
        "What is a program?|Tell me what a program is.|Explain what software is.",
        "A program is a list of steps that a computer follows.",
    ),
    (
        "What is a password?|Tell me what a password is.|Why do I need a password?",
        "A password is a secret word that protects your account.",
    ),
    (
        "What is a website?|Tell me what a website is.|Explain what a website is.",
        "A website is a set of pages that you can open in a browser.",
    ),
    (
        "What is email?|Tell me what email is.|Explain what an email is.",
        "An email is a message that one computer sends to another.",
    ),
    (
        "What is recycling?|Why should I recycle?|Tell me what recycling is.",
        "Recycling means to use old things again to make new ones.",
    ),
    (
        "What is a triangle?|Tell me what a triangle is.|Explain what a triangle is.",
        "A triangle is a shape with three sides.",
    ),
    ("Which animals can fly?|Name animals that can fly.|What animals fly?", "Birds, bees and bats can fly."),
    ("When is Christmas?|On which date is Christmas?|Which month is Christmas in?", "Christmas is on 25 December."),
    (
        "When is New Year?|On which date does the year begin?|Which day is the first of the year?",
        "The year begins on 1 January.",
    ),
    (
        "Which is the shortest month?|What is the shortest month?|Name the shortest month.",
        "February is the shortest month.",
    ),
    (
        "Where does the sun rise?|In which direction does the sun rise?|Where can I see the sun rise?",
        "The sun rises in the east.",
    ),
    (
        "Where does the sun set?|In which direction does the sun set?|Where does the sun go down?",
        "The sun sets in the west.",
    ),
    (
        "What do I do when I have a cold?|I have a cold. What helps?|What helps against a cold?",
        "Rest, drink warm tea and see a doctor if it does not get better.",
    ),
    (
        "What do I do in a fire?|What should I do if there is a fire?|There is a fire! What now?",
        "Leave the house at once and call the fire service.",
    ),
    (
        "What should I wear when it rains?|It is raining. What should I take?|What do I need in the rain?",
        "Take a raincoat or an umbrella.",
    ),
    (
        "What should I pack for a trip?|What do I need for a trip?|Help me to pack for a trip.",
        "Pack clothes, a toothbrush, your phone and your papers.",
    ),
    (
        "What can I cook tonight?|What should I eat tonight?|Give me an idea for dinner.",
        "You could cook pasta with tomatoes and cheese. It is quick and easy.",
    ),
    (
        "What can I give my mother for her birthday?|I need a gift for my mother.|Give me an idea for a gift.",
        "You could give flowers, a book or a cake that you made yourself.",
    ),
    (
        "How do I say sorry?|How can I apologise to a friend?|How do I apologise?",
        "Say that you are sorry, say what you did wrong and ask how you can make it good.",
    ),
)
