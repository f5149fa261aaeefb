use strict;
use warnings;

sub handler {
    my ($event, $context) = @_;
    my $name = ($event->{queryStringParameters} // {})->{name} // 'world';
    print "greeting $name\n";
    return { statusCode => 200, headers => { 'content-type' => 'text/plain' }, body => "Hello, $name!\n" };
}

1;
