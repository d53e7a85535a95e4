//! Names, the most frequent first, by where they come from and when children were called so. Facts, of our own choosing.

/// Family names of most of the country.
pub(super) const FAMILY: &str = "
Smith Jones Williams Taylor Brown Davies Evans Wilson Thomas Johnson Roberts Robinson Thompson Wright Walker White Edwards
Hughes Green Hall Lewis Harris Clarke Jackson Clark Turner Hill Scott Cooper Morris Ward Moore King Watson Baker Harrison
Morgan Patel Young Allen Mitchell James Anderson Phillips Lee Bell Parker Davis Bennett Miller Cook Shaw Cox Campbell
Richardson Marshall Collins Carter Price Gray Adams Wood Simpson Griffiths Ellis Kelly Stewart Murray Foster Ross Mason
Hunt Powell Webb Palmer Rogers Matthews Stevens Knight Barnes Chapman Lloyd Holmes Graham Butler Russell Fisher Barker
Jenkins Stevenson Dixon Fletcher Hunter Pearson Harvey Gibson Elliott Andrews Ford Reynolds Owen Day West Payne Spencer
Bailey Hamilton Pearce Walsh Fox Johnston Hart Rose Lawrence Cole Wallace Burton Armstrong Reid Saunders Gordon Henderson
Mills Nicholson Dawson Hudson Grant Burns Kennedy Cunningham Parry Howard Stone Atkinson Brooks Crawford Lane Ferguson
Perry Carr Robertson Ryan Douglas Holland Woods Rees Newman Harding Osborne Wells Fuller Bradley Bates Berry Watts Hayes
Bishop Nash Gilbert Barrett Sutton Cross Peters Hopkins Jordan Curtis Potter Chambers Lowe Goodwin Marsh Doyle Burke
Sharp Bird Freeman Lambert Frost Parsons Booth Rowe Horton Lynch Hobbs Buckley Norris Blake Poole Hewitt Nelson Long
Wheeler Sanders Walters Bond Moss Cartwright Sheppard Dean Hale Goddard Hancock Yates Bolton Steele Hammond Rhodes
Whitehead Kirby Slater Fowler Hodgson Barber Gregory Coleman Warren Boyd Sinclair Hardy Conway Thornton Franklin Nolan
Ashworth Entwistle Featherstone Cholmondeley Higginbottom Ramsbottom Clegg Ogden Sykes Braithwaite Postlethwaite Thwaite
Trevithick Penrose Tregenza Pascoe Nankivell Polglase Beauchamp Featherstonehaugh Mainwaring Marjoribanks";

/// Irish and Scottish ones, with their apostrophes.
pub(super) const FAMILY_GAELIC: &str = "
Murphy O'Brien O'Neill McDonald O'Connor McCarthy O'Sullivan Gallagher O'Reilly Doherty McKenzie MacDonald O'Donnell
McLaughlin Brennan Quinn MacLeod McIntyre O'Hara McGrath Fitzgerald O'Leary McKay Daly Byrne O'Keeffe Duffy McMahon
Kavanagh O'Shea D'Arcy O'Callaghan McGuinness MacKinnon Sweeney O'Dowd Farrell";

/// South Asian ones.
pub(super) const FAMILY_ASIAN: &str = "
Patel Singh Khan Begum Ahmed Hussain Kaur Ali Shah Mahmood Akhtar Iqbal Malik Kumar Sharma Rahman Chowdhury Mistry Desai
Gill Bibi Mehta Chaudhry Miah Uddin Rashid Aslam Sandhu Dhillon Joshi Bhatt Nair Reddy Mirza Qureshi Sidhu Grewal
Thakkar Parmar Islam";

/// Central and eastern European ones.
pub(super) const FAMILY_EAST: &str = "
Nowak Kowalski Wiśniewski Wójcik Kowalczyk Kamiński Lewandowski Zieliński Szymański Woźniak Kociński Dąbrowski Kozłowski
Jankowski Popescu Ionescu Popa Dumitru Novák Svoboda Horváth Nagy Petrov Ivanov Kaminskas Bērziņš Łukasik Müller Schröder
Kováč Jovanović";

/// African and Caribbean ones.
pub(super) const FAMILY_AFRICAN: &str = "
Okafor Adeyemi Mensah Okonkwo Abubakar Owusu Adebayo Boateng Mohamed Ibrahim Osei Asante Nwosu Balogun Eze Ogunleye
Banda Moyo Ncube Kamara Sesay Bangura Campbell Clarke Brown Grant Francis Joseph Charles Abdi Hassan Warsame";

/// Chinese, Vietnamese, Portuguese, Spanish and French ones.
pub(super) const FAMILY_OTHER: &str = "
Wong Chan Li Wang Zhang Chen Liu Lam Cheung Nguyen Tran Silva Santos Ferreira García Fernández Núñez Martínez Gonçalves
Rossi Ferrari Dubois Lefèvre François Gauthier D'Angelo De_Souza Van_Dijk";

/// Girls born before 1945.
pub(super) const GIRLS_1: &str = "
Margaret Mary Joan Doris Dorothy Kathleen Irene Betty Eileen Sheila Jean Patricia Audrey Joyce Barbara Edith Vera Hilda
Marjorie Elsie Gladys Phyllis Ivy Winifred Beryl Brenda Edna Peggy Muriel Olive Norah Ethel Constance Freda Sylvia Daphne
Mavis Enid Lilian Maud";
/// Boys born before 1945.
pub(super) const BOYS_1: &str = "
John William George James Ronald Robert Kenneth Frederick Thomas Albert Eric Edward Arthur Charles Leslie Sidney Harold
Frank Raymond Norman Peter Donald Dennis Stanley Ernest Reginald Jack Alfred Walter Derek Cyril Leonard Bernard Percy
Cecil Wilfred Horace Clifford Ralph Gordon";
/// Girls born from 1945 to 1969.
pub(super) const GIRLS_2: &str = "
Susan Margaret Christine Linda Patricia Jean Ann Carol Janet Jacqueline Julie Elizabeth Karen Pauline Sandra Maureen
Barbara Deborah Angela Jane Tracey Helen Gillian Diane Lesley Valerie Denise Wendy Jennifer Lynn Hilary Alison Sharon
Sheila Beverley Teresa Lorraine Marion Judith Yvonne Siân Renée Anne Rosemary Heather Glenys Frances";
/// Boys born from 1945 to 1969.
pub(super) const BOYS_2: &str = "
David John Peter Michael Alan Robert Stephen Paul Brian Graham Philip Anthony Colin Christopher Geoffrey William James
Keith Terence Barry Malcolm Richard Ian Derek Roger Raymond Trevor Kevin Andrew Nigel Martin Gary Clive Neil Kenneth
Douglas Roy Gareth Hugh Gerald Stuart Leslie Alun Timothy Adrian Howard";
/// Girls born from 1970 to 1994.
pub(super) const GIRLS_3: &str = "
Sarah Claire Emma Laura Rebecca Gemma Nicola Lisa Joanne Michelle Rachel Samantha Helen Victoria Louise Kelly Amanda
Charlotte Hannah Jessica Amy Lauren Kerry Zoe Catherine Natalie Danielle Katie Jennifer Stacey Kirsty Donna Hayley Jodie
Leanne Cheryl Abigail Stephanie Zoë Bethan Ceri Rhian Anna Tanya Naomi Ruth Melanie Tara Chantelle";
/// Boys born from 1970 to 1994.
pub(super) const BOYS_3: &str = "
Paul Mark David Andrew Richard Christopher James Simon Michael Matthew Stephen Lee John Robert Darren Daniel Steven Jason
Thomas Adam Craig Ben Jonathan Ryan Scott Stuart Luke Gareth Wayne Jamie Carl Nathan Dean Sean Liam Rhys Joshua Ashley
Shaun Anthony Marc Aaron Neil Jack Samuel Damian Russell Bradley Kieran";
/// Girls born since 1995.
pub(super) const GIRLS_4: &str = "
Olivia Emily Amelia Isla Ava Sophie Jessica Chloe Mia Isabella Lily Ella Grace Poppy Freya Evie Charlotte Megan Ruby Lucy
Holly Millie Daisy Phoebe Florence Ivy Rosie Willow Matilda Imogen Elsie Scarlett Erin Eleanor Maisie Alice Chloé Zoë
Niamh Aoife Esmé Harriet Lola Eliza Nancy Summer Thea Robyn Arabella Beatrice Maeve Seren Lowri";
/// Boys born since 1995.
pub(super) const BOYS_4: &str = "
Oliver Jack Harry George Noah Thomas Joshua Charlie Jacob Oscar Leo William James Alfie Henry Archie Ethan Joseph Freddie
Samuel Max Daniel Mohammed Arthur Theo Alexander Logan Lucas Finley Toby Harrison Riley Reuben Tyler Connor Jayden Elliot
Luca Callum Dylan Rory Zachary Hugo Jenson Ronnie Evan Kai Seán Llew Caleb Ezra Osian Macsen";
/// South Asian girls and women.
pub(super) const GIRLS_ASIAN: &str = "
Fatima Aisha Zainab Maryam Amina Priya Anjali Sunita Meena Kiran Jaspreet Harpreet Simran Nasreen Shabana Rukhsana Parveen
Nusrat Pooja Neha Rupa Shazia Zara Hafsa Manjit Gurpreet Kavita Lakshmi Salma Yasmin Farah Sana Khadija Anita";
/// South Asian boys and men.
pub(super) const BOYS_ASIAN: &str = "
Mohammed Muhammad Ahmed Ali Imran Rajesh Sanjay Amit Harjit Gurdeep Jaswinder Usman Bilal Hamza Yusuf Ibrahim Tariq Asif
Sajid Nadeem Kamran Vikram Arjun Rohan Dinesh Suresh Anil Manish Hardeep Kulwinder Faisal Zubair Haroon Nikhil Jatinder";
/// Women from elsewhere.
pub(super) const GIRLS_OTHER: &str = "
Anna Maria Agnieszka Katarzyna Małgorzata Joanna Zofia Elena Ioana Ngozi Chiamaka Abena Ama Fatou Hawa Grace Blessing Mei
Xiu Ling Thi Sofia Inês Beatriz Lucía José Carmen Chiara Amélie Céline Zuzanna Adaeze Temitope Wanjiru Yaa";
/// Men from elsewhere.
pub(super) const BOYS_OTHER: &str = "
Piotr Krzysztof Andrzej Tomasz Łukasz Marcin Paweł Andrei Mihai Ion Chukwuemeka Kwame Kofi Emeka Tunde Abdi Yusuf Wei Ming
Jun Minh João Pedro Miguel José Luis Ángel Marco Étienne René Jürgen Stanisław Oluwaseun Tendai Ibrahim Kwabena";

/// Compound given names: one item of the list of given names, with a space.
pub(super) const GIRLS_COMPOUND: [&str; 10] = [
    "Mary Ann",
    "Sarah Jane",
    "Emma Louise",
    "Anna Maria",
    "Lily May",
    "Ella Rose",
    "Jane Marie Anne",
    "Betty Lou",
    "Ann Marie",
    "Amelia-Rose",
];
/// The same for boys.
pub(super) const BOYS_COMPOUND: [&str; 9] = [
    "John Paul",
    "Jean Paul",
    "Billy Joe",
    "Tommy Lee",
    "Alfie Jay",
    "Mohammed Ali",
    "James Alexander",
    "Jean-Luc",
    "José María",
];

/// What people are called for short.
pub(super) const NICKNAMES: [(&str, &str); 40] = [
    ("Robert", "Bob"),
    ("William", "Bill"),
    ("Richard", "Dick"),
    ("Margaret", "Peggy"),
    ("Elizabeth", "Liz"),
    ("John", "Jack"),
    ("James", "Jim"),
    ("Thomas", "Tom"),
    ("Michael", "Mick"),
    ("Christopher", "Chris"),
    ("Patricia", "Pat"),
    ("Susan", "Sue"),
    ("Christine", "Chris"),
    ("Deborah", "Debbie"),
    ("Jacqueline", "Jackie"),
    ("Jennifer", "Jenny"),
    ("Rebecca", "Becky"),
    ("Victoria", "Vicky"),
    ("Samantha", "Sam"),
    ("Katherine", "Kate"),
    ("Catherine", "Cathy"),
    ("Charlotte", "Lottie"),
    ("Alexander", "Alex"),
    ("Anthony", "Tony"),
    ("Andrew", "Andy"),
    ("Stephen", "Steve"),
    ("Steven", "Steve"),
    ("Daniel", "Dan"),
    ("Matthew", "Matt"),
    ("Joseph", "Joe"),
    ("Edward", "Ted"),
    ("Frederick", "Fred"),
    ("Ronald", "Ron"),
    ("Kenneth", "Ken"),
    ("Albert", "Bert"),
    ("Dorothy", "Dot"),
    ("Eleanor", "Ellie"),
    ("Abigail", "Abi"),
    ("Joshua", "Josh"),
    ("Samuel", "Sam"),
];

/// Words that sound alike: one is written for the other.
pub(super) const SOUNDS_ALIKE: [(&str, &str); 22] = [
    ("Smith", "Smyth"),
    ("Clarke", "Clark"),
    ("Clark", "Clarke"),
    ("Davies", "Davis"),
    ("Davis", "Davies"),
    ("Thompson", "Thomson"),
    ("Phillips", "Philips"),
    ("Stevens", "Stephens"),
    ("Stewart", "Stuart"),
    ("Matthews", "Mathews"),
    ("Brown", "Browne"),
    ("Green", "Greene"),
    ("Cook", "Cooke"),
    ("Gray", "Grey"),
    ("Reid", "Read"),
    ("Allen", "Allan"),
    ("Read", "Reid"),
    ("Hughes", "Hewes"),
    ("Lee", "Leigh"),
    ("Rees", "Reece"),
    ("Elliott", "Eliot"),
    ("Chowdhury", "Choudhury"),
];
