"""Word lists of the synthetic corpus, most frequent first: a word's place is its Zipf rank.

A trailing "+" doubles the last consonant before -ed, -ing, -er ("stop+" -> stopped). An irregular
verb is written base:past:participle, an irregular plural singular:plural.
"""

# ruff: noqa: SIM905 -- lists of 80 words read better as text

PEOPLE = """
man:men woman:women boy child:children friend mother teacher girl father doctor student king farmer
brother sister driver neighbour captain writer artist player worker officer soldier uncle aunt
cousin lawyer singer painter nurse judge manager leader queen prince stranger guest visitor baker
sailor scientist engineer pilot actor dancer musician poet reporter editor student gardener hunter
fisherman:fishermen shopkeeper butcher tailor carpenter builder plumber waiter cook chef clerk
banker merchant customer passenger tourist traveller guide guard policeman:policemen
fireman:firemen postman:postmen detective witness thief:thieves prisoner rebel knight servant maid
butler landlord tenant owner partner colleague rival enemy hero wizard giant ghost monk priest
bishop scholar professor pupil expert surgeon dentist patient baby infant toddler teenager adult
husband:husbands wife:wives son daughter nephew niece grandmother grandfather parent twin orphan
widow bride groom emperor duke princess minister senator mayor governor president citizen voter
speaker author publisher librarian historian philosopher chemist astronomer athlete swimmer runner
coach referee champion drummer violinist composer conductor magician clown juggler acrobat juror
beggar miner shepherd rancher cowboy weaver potter jeweller barber beekeeper woodcutter
""".split()

ANIMALS = """
dog cat horse bird cow fox wolf:wolves bear lion tiger mouse:mice rabbit sheep:sheep goat pig duck
goose:geese hen frog snake spider bee ant butterfly fly owl eagle crow pigeon parrot swan whale
dolphin shark seal otter beaver squirrel hedgehog badger deer:deer moose:moose elephant giraffe
zebra monkey camel donkey mule pony calf:calves lamb puppy kitten turtle lizard crab lobster
octopus beetle moth wasp snail worm robin sparrow falcon raven peacock penguin panther leopard
cheetah jaguar hamster ferret weasel
""".split()

THINGS = """
book letter car door television table chair box window coin picture key cup boat train ship bag
coat hat shoe bottle glass knife:knives plate spoon fork bowl pot pan lamp clock watch ring map pen
pencil paper newspaper magazine notebook page camera phone radio computer machine engine wheel
bicycle bus truck wagon cart ladder rope chain hammer nail saw axe shovel spade bucket basket
barrel brush broom mirror candle match torch lantern blanket pillow curtain carpet sheet towel
shirt dress jacket skirt belt button pocket glove scarf:scarves sock boot umbrella ticket stamp
envelope parcel package note purse wallet bill cheque contract poem story novel song drum guitar
piano violin flute trumpet bell whistle toy doll ball kite balloon puzzle card prize medal crown
sword shield spear arrow rifle flag statue painting photograph sketch drawing mask costume apple
orange banana lemon cherry peach plum pear grape melon potato tomato carrot onion cabbage bean nut
egg loaf:loaves sandwich cake pie biscuit pudding sausage pancake sweet flower rose lily tulip
daisy leaf:leaves branch root seed bush vine stone rock pebble brick log plank pole post fence gate
wall roof shelf:shelves drawer cupboard desk bench sofa bed cradle stool oven stove kettle fridge
heater fan pipe tap sink bath wire cable battery switch lever handle spring needle thread ribbon
zip cushion vase jar jug tray napkin feather shell bone skull tooth:teeth wing tail nest egg cage
leash saddle hook net anchor sail oar paddle raft canoe rocket satellite telescope microscope
thermometer compass calendar diary dictionary alphabet keyboard screen printer
""".split()

PLACES = """
house room street city town garden school river village church market office shop station bridge
forest field hill mountain lake sea beach island farm park kitchen bedroom hall castle palace tower
museum library theatre hospital hotel restaurant cafe bank prison court factory mill mine harbour
airport road path lane square corner valley desert jungle meadow orchard yard barn stable cottage
cabin tent cave cellar attic stairs:stairs balcony porch lobby corridor bathroom study classroom
laboratory studio workshop garage warehouse stadium pool playground cemetery temple monastery
chapel cathedral university college academy embassy border coast cliff shore bay pond stream canal
waterfall marsh swamp glacier volcano plain prairie county district suburb capital port dock
""".split()

ABSTRACT = """
idea question pleasure answer decision plan voice problem choice story truth noise vision reason
word treasure name game lesson chance change mistake rule law secret promise dream fear hope joy
danger trouble sound smell colour shape size price cost value number amount list message report
opinion argument theory fact proof example method system project task job duty habit custom
tradition language accent culture religion science history art music fashion science experiment
discovery invention journey adventure voyage trip visit holiday festival party wedding meeting
speech debate election war battle victory defeat peace treaty crime murder accident injury illness
disease cure treatment health strength power energy speed force weight heat light shadow darkness
silence weather storm measure confusion conclusion illusion explosion division occasion version
future past moment hour season century beginning ending middle purpose meaning feeling thought
memory knowledge wisdom courage honour pride shame anger sorrow jealousy kindness beauty friendship
freedom justice poverty wealth fortune luck fate mystery legend rumour joke riddle punishment
reward gift offer request order command warning threat excuse apology complaint
""".split()

MASS = """
water milk bread money food tea coffee sugar salt butter cheese rice soup meat fish honey oil wine
juice ice snow rain sand dust mud grass wood iron gold silver copper steel glass cotton wool silk
leather smoke fire air gas coal paint ink soap flour jam chocolate music work homework furniture
luggage equipment information advice evidence progress traffic
""".split()

NAMES = """
john mary james anna peter sarah thomas emma david lucy george alice henry julia arthur clara
edward grace oliver sophie daniel laura samuel helen martin ruth victor rose hugo irene felix nora
oscar judith simon diana joseph vera leonard esther
""".split()

# Transitive verbs: with a thing, a person or an idea as object.
VERBS_THING = """
see:saw:seen take:took:taken find:found:found make:made:made want keep:kept:kept
bring:brought:brought use buy:bought:bought hold:held:held measure carry open move lose:lost:lost
like need show:showed:shown build:built:built break:broke:broken cut+:cut:cut push pull drop+
throw:threw:thrown catch:caught:caught sell:sold:sold paint wash clean lift touch
choose:chose:chosen steal:stole:stolen hide:hid:hidden fix mend repair burn draw:drew:drawn share
check count collect cover destroy deliver design discover examine fill fold gather grab+
hang:hung:hung borrow inspect notice observe order pack pick place polish press produce protect
raise receive remove replace return roll scratch seize send:sent:sent shake:shook:shaken smash
smell squeeze stack store stretch strike:struck:struck sweep:swept:swept swing:swung:swung tie turn
twist unlock wear:wore:worn weigh wrap+ tear:tore:torn bend:bent:bent bite:bit:bitten carve crush
damage decorate drag+ empty exchange freeze:froze:frozen grip+ heat invent label launch load lock
melt overlook paste peel plant plug+ pour purchase rescue rub+ scrub+ shut+:shut:shut slice spill
split+:split:split spoil spread:spread:spread swallow toss trade trim+ admire
""".split()

VERBS_PERSON = """
know:knew:known help meet:met:met love ask call join follow watch tell:told:told leave:left:left
visit hear:heard:heard thank trust believe answer remember teach:taught:taught lead:led:led invite
greet hate warn surprise please praise blame trouble annoy avoid chase comfort convince defeat
disturb encourage entertain escort fight:fought:fought fool forgive:forgave:forgiven frighten hire
ignore impress insult interrupt introduce laugh miss obey pay:paid:paid persuade question recognise
respect reward save scare serve shock support suspect understand:understood:understood welcome
worry amuse arrest assist bother challenge cheat
""".split()

VERBS_IDEA = """
understand:understood:understood explain discuss enjoy forget+:forgot:forgotten change learn accept
remember treasure consider describe mention study write:wrote:written read solve finish start
begin+:began:begun support reject imagine share expect ignore prove report repeat admit+ announce
avoid celebrate compare complete confirm create criticise defend deny doubt examine express fear
improve influence investigate judge justify keep:kept:kept notice plan+ prefer+ predict prepare
promise publish reveal suggest translate trust value
""".split()

VERBS_INTRANSITIVE = """
go:went:gone come:came:come walk run+:ran:run work live stay wait sit+:sat:sat stand:stood:stood
play talk sleep:slept:slept laugh fall:fell:fallen sing:sang:sung swim+:swam:swum dance smile cry
arrive travel rest jump climb return speak:spoke:spoken listen look rise:rose:risen eat:ate:eaten
drive:drove:driven ride:rode:ridden fly:flew:flown drink:drank:drunk shout whisper cough sneeze
yawn shiver tremble disappear appear wander march crawl hurry rush race escape hide:hid:hidden
kneel:knelt:knelt pray grow:grew:grown dig+:dug:dug fish hunt cook study breathe argue complain
hesitate relax struggle stumble slip+ slide:slid:slid float drift sink:sank:sunk dive vanish
wake:woke:woken glow shine:shone:shone bark howl sneer chatter gossip giggle sigh snore stroll
""".split()

VERBS_SAY = """
say:said:said think:thought:thought know:knew:known believe hope see:saw:seen hear:heard:heard
feel:felt:felt notice guess suppose remember explain admit+ imagine agree claim decide discover
dream pretend realise doubt understand:understood:understood suspect insist wish
""".split()

VERBS_TO = """
want try need like begin+:began:begun start hope decide plan+ forget+:forgot:forgotten learn love
refuse promise agree expect prefer+ hate choose:chose:chosen manage offer pretend hesitate
""".split()

ADJECTIVES = """
good new old little big long small great young large other high unusual happy cold dark strong
early poor hot warm short deep quiet heavy bright beautiful strange rich full empty clean dry wet
soft hard sharp smooth rough wide narrow thick thin tall round flat fresh sweet sour bitter loud
calm wild gentle kind brave clever wise foolish proud honest lazy busy tired hungry thirsty angry
sad lonely afraid nervous careful careless curious polite rude famous ancient modern simple strange
common rare useful broken wooden pale shiny dusty muddy sandy rocky stormy windy sunny cloudy foggy
frozen burning shining flying hidden secret sacred royal public private foreign local distant
nearby huge tiny giant enormous charming lovely pretty ugly plain elegant graceful clumsy noisy
silent cheerful gloomy joyful mysterious magical terrible horrible awful wonderful marvellous
splendid excellent perfect precious cheap expensive valuable worthless fragile solid hollow crooked
straight loose tight steep slippery sticky greasy fluffy furry feathered striped spotted patient
faithful loyal stubborn greedy jealous generous humble innocent guilty fearless cautious reckless
sensible thoughtful weary sleepy sick healthy weak mighty powerful gigantic slender plump chubby
bald bearded elderly youthful rusty leather woollen velvet marble ordinary casual visual leisurely
delicious tasty spicy juicy ripe rotten mouldy stale electric mechanical digital scientific
historical political musical poetic tragic comic heroic
""".split()

# Only things have one.
COLOURS = """
white black red green blue brown yellow grey golden silver pink orange purple scarlet crimson
violet turquoise emerald amber ivory beige azure
""".split()

# Said of a whole idea, a plan or a question.
ADJECTIVES_IDEA = """
important good simple difficult clear strange new true real easy possible serious necessary obvious
terrible clever useful dangerous interesting boring impossible famous brilliant ridiculous curious
reasonable unlikely complicated popular personal general
""".split()

COMPARATIVES = """
better bigger older smaller younger taller stronger faster slower warmer colder richer poorer
louder quieter heavier lighter darker brighter kinder wiser happier sadder cleverer thinner
""".split()

ADVERBS_MANNER = """
slowly quickly quietly carefully suddenly easily casually well badly gently loudly softly happily
sadly angrily bravely calmly eagerly gladly hungrily kindly lazily nervously noisily patiently
politely proudly rapidly rudely safely secretly silently smoothly steadily swiftly warmly wearily
wildly wisely anxiously awkwardly beautifully boldly cheerfully cleverly clumsily curiously
gracefully honestly usually thoroughly
""".split()

ADVERBS_OFTEN = """
never always usually often still also sometimes already just really almost only rarely soon hardly
finally certainly probably nearly seldom simply clearly obviously eventually
""".split()

ADVERBS_TIME = """
today yesterday again now then here there tomorrow tonight outside together inside everywhere
upstairs downstairs abroad alone forever nowhere somewhere indoors outdoors twice once afterwards
""".split()

DEGREES = "very so too rather quite really extremely fairly".split()

PREPOSITIONS_PLACE = """
in to at near from into through behind towards around across outside past beyond beside under above
below inside opposite along
""".split()

PREPOSITIONS_THING = """
with on for without under about behind over beside beneath against upon between above like
""".split()

TIMES = """
day night morning year week evening month summer winter afternoon monday sunday friday saturday
tuesday wednesday thursday january march april july august september october november december
spring autumn birthday minute decade midnight weekend
""".split()

NUMBERS = """
two three four five six ten seven eight nine twelve twenty hundred thirty fifty eleven fifteen
forty thirteen fourteen sixteen seventeen eighteen nineteen sixty seventy eighty ninety thousand
""".split()

ORDINALS = "first second last third next fourth fifth sixth seventh tenth".split()

CONJUNCTIONS = "when because if while before after although until since unless whenever".split()
